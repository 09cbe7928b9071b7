// Entropy and disagreement plane

const plane = { points: null, view: null, hover: -1, order: [] };
const PLANE_MARGIN = { left: 54, right: 12, top: 12, bottom: 44 };

function planeNames() {
  return state.axes === "normalised" ? ["H_norm", "D_norm"] : ["entropy", "disagreement"];
}

function planePoints() {
  const [nameX, nameY] = planeNames();
  return once(`plane|${state.plane}|${nameX}`, () => {
    const out = { x: [], y: [], context: [], position: [], absent: 0 };
    for (const context of contexts) {
      if (context.split !== state.plane) continue;
      const [xs, ys] = [nameX, nameY].map((name) => colorValues(context, `score:${name}`));
      for (let position = 0; position < context.length; position += 1) {
        if (!Number.isFinite(xs[position]) || !Number.isFinite(ys[position])) {
          out.absent += 1;
          continue;
        }
        out.x.push(xs[position]);
        out.y.push(ys[position]);
        out.context.push(context);
        out.position.push(position);
      }
    }
    out.medianX = median(out.x);
    out.medianY = median(out.y);
    return out;
  });
}

function axis(values, from, to) {
  const bend = state.axes === "sqrt" ? (value) => Math.sign(value) * Math.sqrt(Math.abs(value)) : (value) => value;
  const [low, high] = bounds(values);
  const span = bend(high) - bend(low);
  const place = (value) => from + ((bend(value) - bend(low)) / span) * (to - from);
  return { low, high, place };
}

function drawPlane() {
  const points = planePoints();
  const box = byId("plane-box");
  const [width, height] = [box.clientWidth, box.clientHeight];
  const pen = prepare(byId("plane-points"), width, height);
  prepare(byId("plane-marks"), width, height);
  plane.points = points;
  plane.hover = -1;
  drawPlaneSide();
  if (!points.x.length) {
    plane.view = null;
    pen.fillStyle = cssColor("--muted");
    pen.font = `14px ${cssColor("--sans")}`;
    pen.fillText(`No token of this split has both ${planeNames().join(" and ")}.`, 12, 32);
    return;
  }
  const x = axis(points.x, PLANE_MARGIN.left + 6, width - PLANE_MARGIN.right - 6);
  const y = axis(points.y, height - PLANE_MARGIN.bottom - 6, PLANE_MARGIN.top + 6);
  const px = Float32Array.from(points.x, x.place);
  const py = Float32Array.from(points.y, y.place);
  plane.view = { width, height, x, y, px, py };
  const kept = points.position.map((position, index) => isKept(points.context[index], state.selector, position));
  plane.kept = kept;
  drawPlaneAxes(pen, plane.view);
  drawDots(pen, px, py, kept);
  const stepped = kept.some(Boolean) ? [...px.keys()].filter((index) => kept[index]) : [...px.keys()];
  plane.order = stepped.sort((first, second) => px[first] - px[second] || py[first] - py[second]);
  drawMedians(pen, plane.view, points);
}
