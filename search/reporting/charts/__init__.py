"""Charts of web pages as SVG, drawn on the server.

Colours come from the style of the page, so that a chart follows the light or dark scheme and
prints. Points carry labels, which the script of the page shows under the pointer or on arrow keys.
A chart draws at most `search.reporting.charts.plot.MOST_POINTS` points of a series, so that 10,000
trials open at once. Plotly, measured for the same page, took 10 seconds for its parallel
coordinates without a GPU, and adds 4.8 MB to each page.
"""
