// The day's profit and loss: what was kept of it minute by minute, and since then every figure that the stream brings.
// uPlot draws.
"use strict";
(() => {
  const box = document.getElementById("pnl-chart");
  if (!box) return;
  const rupees = new Intl.NumberFormat("en-IN", { maximumFractionDigits: 0 });
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let plot = null;
  let data = [[], []];

  function options() {
    const line = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false },
      font: "11px system-ui, sans-serif" };
    return {
      width: box.clientWidth, height: box.clientHeight, cursor: { y: false, points: { size: 6 } }, legend: { show: false },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Asia/Kolkata"),
      scales: { x: { time: true }, y: { range: (_, low, high) => {
        const [from, to] = [Math.min(low ?? 0, 0), Math.max(high ?? 0, 0)];
        const room = Math.max((to - from) * 0.1, 50);
        return [from - room, to + room];
      } } },
      axes: [{ ...line, size: 28, values: (_, ticks, axis, room, apart) => ticks.map((tick) => new Date(tick * 1000)
        .toLocaleTimeString("en-IN", { timeZone: "Asia/Kolkata", hour: "2-digit", minute: "2-digit", hour12: false,
          ...(apart < 60 && { second: "2-digit" }) })) },
      { ...line, size: 64, values: (_, ticks) => ticks.map((tick) => rupees.format(tick)) }],
      series: [{}, { stroke: colour("--live"), width: 1.75, fill: `${colour("--live")}14`, points: { show: false } }],
    };
  }
  function draw() {
    plot?.destroy();
    plot = new uPlot(options(), data, box);
  }
  function add(at, amount) {
    const seconds = Date.parse(at) / 1000;
    if (data[0].length && seconds <= data[0][data[0].length - 1]) return;
    data[0].push(seconds);
    data[1].push(amount);
    if (data[0].length > 20000) data = [data[0].slice(-10000), data[1].slice(-10000)];
  }
  fetch(box.dataset.src ?? "/console/pnl/points", { credentials: "same-origin" }).then((answer) => answer.json()).then((points) => {
    for (const [at, amount] of points) add(at, amount);
    draw();
  });
  document.addEventListener("console:pnl", (event) => {
    if (event.detail.userId !== box.dataset.user || !plot) return;
    add(event.detail.at, event.detail.total.pnl);
    plot.setData(data);
  });
  document.addEventListener("console:theme", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(() => plot?.setSize({ width: box.clientWidth, height: box.clientHeight })).observe(box);
})();
