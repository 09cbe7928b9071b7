// Entropy and disagreement plane: drawing

function prepare(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return pen;
}

function planeTicks({ low, high }, wanted) {
  if (state.axes !== "sqrt" || low < 0) return ticks(low, high, wanted);
  const round = (value) => Number(value.toPrecision(1));
  const values = unique(Array.from({ length: wanted + 1 }, (_, index) => round(high * (index / wanted) ** 2)));
  return values.filter((value) => value >= low && value <= high).map((value) => ({ value, text: String(value) }));
}

function drawPlaneAxes(pen, { width, height, x, y }) {
  const { left, right, top, bottom } = PLANE_MARGIN;
  pen.font = `12px ${cssColor("--sans")}`;
  pen.strokeStyle = cssColor("--grid");
  pen.fillStyle = cssColor("--muted");
  pen.lineWidth = 1;
  pen.textAlign = "center";
  let lastEnd = -Infinity;
  for (const { value, text } of planeTicks(x, width < 500 ? 5 : 8)) {
    const at = Math.round(x.place(value)) + 0.5;
    pen.strokeRect(at, top, 0, height - top - bottom);
    const half = pen.measureText(text).width / 2;
    if (at - half < lastEnd + 6) continue;
    pen.fillText(text, at, height - bottom + 16);
    lastEnd = at + half;
  }
  pen.textAlign = "right";
  let lastTop = Infinity;
  for (const { value, text } of planeTicks(y, 6)) {
    const at = Math.round(y.place(value)) + 0.5;
    pen.strokeRect(left, at, width - left - right, 0);
    if (at > lastTop - 14) continue;
    pen.fillText(text, left - 7, at + 4);
    lastTop = at;
  }
  pen.strokeStyle = cssColor("--line");
  pen.strokeRect(left + 0.5, top + 0.5, width - left - right - 1, height - top - bottom - 1);
  const [nameX, nameY] = planeNames();
  pen.fillStyle = cssColor("--ink");
  pen.textAlign = "center";
  pen.fillText(withUnit(nameX), (left + width - right) / 2, height - 8);
  pen.save();
  pen.translate(13, (top + height - bottom) / 2);
  pen.rotate(-Math.PI / 2);
  pen.fillText(withUnit(nameY), 0, 0);
  pen.restore();
}

function drawDots(pen, px, py, kept) {
  const many = px.length > 12000;
  const radius = many ? 1.1 : 1.9;
  pen.fillStyle = cssColor("--other");
  pen.globalAlpha = many ? 0.32 : 0.5;
  for (let index = 0; index < px.length; index += 1) {
    if (kept[index]) continue;
    if (many) {
      pen.fillRect(px[index] - radius, py[index] - radius, 2 * radius, 2 * radius);
      continue;
    }
    pen.beginPath();
    pen.arc(px[index], py[index], radius, 0, 2 * Math.PI);
    pen.fill();
  }
  pen.fillStyle = cssColor("--kept");
  pen.strokeStyle = cssColor("--surface");
  pen.lineWidth = 0.8;
  pen.globalAlpha = many ? 0.75 : 0.95;
  const size = many ? 2.6 : 4.2;
  for (let index = 0; index < px.length; index += 1) {
    if (!kept[index]) continue;
    pen.beginPath();
    diamond(pen, px[index], py[index], size);
    pen.fill();
    if (!many) pen.stroke();
  }
  pen.globalAlpha = 1;
}

function diamond(pen, x, y, size) {
  pen.moveTo(x, y - size);
  pen.lineTo(x + size, y);
  pen.lineTo(x, y + size);
  pen.lineTo(x - size, y);
  pen.closePath();
}

function drawMedians(pen, { width, height, x, y }, points) {
  const { left, right, top, bottom } = PLANE_MARGIN;
  const [mx, my] = [x.place(points.medianX), y.place(points.medianY)];
  for (const [color, wide, dash] of [
    ["--surface", 2.4, []],
    ["--ink", 1.3, [6, 4]],
  ]) {
    pen.strokeStyle = cssColor(color);
    pen.lineWidth = wide;
    pen.setLineDash(dash);
    pen.beginPath();
    pen.moveTo(mx, top);
    pen.lineTo(mx, height - bottom);
    pen.moveTo(left, my);
    pen.lineTo(width - right, my);
    pen.stroke();
  }
  pen.setLineDash([]);
}
