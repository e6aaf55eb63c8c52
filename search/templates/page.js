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

// Parallel coordinates: drag along an axis to keep the lines within; the slider keeps the best.
for (const plot of document.querySelectorAll("svg.parallel")) {
  const slider = plot.parentElement.querySelector("input[type=range]");
  const count = plot.parentElement.querySelector("output");
  const brushes = [...plot.querySelectorAll(".brush")], ranges = new Map();
  const lines = [...plot.querySelectorAll(".threads path")].map(path => ({
    path,
    places: new Map([...path.getAttribute("d").matchAll(/[ML](-?[\d.]+) (-?[\d.]+)/g)]
      .map(place => [place[1], +place[2]])),
  }));
  const filter = () => {
    let shown = 0;
    lines.forEach(({ path, places }, number) => {
      const inside = number >= lines.length - slider.value && [...ranges].every(([x, [low, high]]) =>
        places.has(x) && places.get(x) >= low && places.get(x) <= high);
      path.classList.toggle("out", !inside);
      shown += inside;
    });
    count.textContent = `${shown} of ${lines.length} lines`;
  };
  slider.addEventListener("input", filter);
  for (const brush of brushes) {
    const mark = brush.nextElementSibling;
    const at = event => new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(plot.getScreenCTM().inverse()).y;
    let from = null;
    brush.addEventListener("pointerdown", event => {
      from = at(event);
      brush.setPointerCapture(event.pointerId);
    });
    brush.addEventListener("pointermove", event => {
      if (from === null) return;
      const [low, high] = [from, at(event)].sort((a, b) => a - b);
      ranges.set(brush.dataset.x, [low, high]);
      mark.setAttribute("y", low);
      mark.setAttribute("height", high - low);
      mark.setAttribute("visibility", "visible");
      filter();
    });
    brush.addEventListener("pointerup", event => {
      if (Math.abs(at(event) - from) < 3) {
        ranges.delete(brush.dataset.x);
        mark.setAttribute("visibility", "hidden");
      }
      from = null;
      filter();
    });
  }
}
