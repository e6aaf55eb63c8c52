// Shows the label of the point under the pointer, or of the next point on an arrow key.
for (const plot of document.querySelectorAll("svg.plot")) {
  const output = plot.parentElement.querySelector("output");
  if (!output) continue;
  let points, shown = -1;
  const ring = plot.appendChild(document.createElementNS(plot.namespaceURI, "circle"));
  ring.setAttribute("class", "ring");
  ring.setAttribute("visibility", "hidden");
  ring.setAttribute("r", 6);
  const read = () => points ??= [...plot.querySelectorAll("path[data-labels]")].flatMap(path => {
    const labels = path.dataset.labels.split("\n");
    return [...path.getAttribute("d").matchAll(/[ML](-?[\d.]+) (-?[\d.]+)/g)]
      .map((place, n) => ({ x: +place[1], y: +place[2], label: labels[n] }));
  }).filter(point => point.label).sort((a, b) => a.x - b.x || a.y - b.y);
  const show = number => {
    const point = points[shown = number];
    ring.setAttribute("cx", point.x);
    ring.setAttribute("cy", point.y);
    ring.setAttribute("visibility", "visible");
    output.textContent = point.label;
  };
  plot.addEventListener("pointermove", event => {
    const at = new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(plot.getScreenCTM().inverse());
    let best = -1, least = 400;
    read().forEach((point, number) => {
      const distance = (point.x - at.x) ** 2 + (point.y - at.y) ** 2;
      if (distance < least) [best, least] = [number, distance];
    });
    if (best >= 0 && best !== shown) show(best);
  });
  plot.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !read().length) return;
    event.preventDefault();
    show(Math.max(0, Math.min(points.length - 1, shown + step)));
  });
}
