// Draws size against quality for every [data-pareto] element from the JSON it names. The page that
// carries one may arrive in parts. Chart.js comes with the admin's theme.
(function () {
  "use strict";
  const teal = "#0d9488";
  const faint = "rgba(148,163,184,0.3)";
  const shown = (value, digits) => (value == null ? "–" : value.toFixed(digits));
  const size = (bytes) => (bytes >= 1e6 ? (bytes / 1e6).toFixed(2) + " MB" : (bytes / 1e3).toFixed(1) + " kB");
  const describe = (point) => [
    size(point.bytes),
    point.measure + " " + shown(100 * point.quality, 2) + " %" +
    (point.low == null ? "" : " (" + shown(100 * point.low, 2) + " to " + shown(100 * point.high, 2) + ")"),
    ...(point.p50_ms == null ? [] : ["p50 " + shown(point.p50_ms, 3) + " ms" +
      (point.relative_p50 == null ? "" : ", " + shown(point.relative_p50, 2) + " × the time of FP32")]),
    point.is_on_front ? "on the front" : "beaten in all three",
    ...(point.is_able ? [] : ["cannot be promoted"]),
  ];

  // From the slowest to the fastest; equally far apart to the eye.
  const scale = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
  function shade(value, low, high) {
    const place = high > low ? (scale.length - 1) * (high - value) / (high - low) : scale.length - 1;
    const start = Math.min(Math.floor(place), scale.length - 2);
    const mixed = scale[start].map((part, i) => Math.round(part + (place - start) * (scale[start + 1][i] - part)));
    return "rgb(" + mixed.join(",") + ")";
  }

  // The front and FP32 are named first, then whatever has room; hovering names the rest.
  function label(points) {
    const extent = (values) => Math.max(...values) - Math.min(...values) || 1;
    const places = points.map((p) => [Math.log(p.bytes), p.quality]);
    const wide = extent(places.map((place) => place[0]));
    const high = extent(points.flatMap((p) => [p.low, p.quality, p.high]).filter((value) => value != null));
    const isNear = (a, b) => Math.abs(a[0] - b[0]) < 0.14 * wide && Math.abs(a[1] - b[1]) < 0.09 * high;
    const named = new Set();
    const rank = (p) => (p.is_on_front ? 0 : p.is_source ? 1 : 2);
    for (const index of points.map((_, i) => i).sort((a, b) => rank(points[a]) - rank(points[b]))) {
      if (![...named].some((other) => isNear(places[other], places[index]))) named.add(index);
    }
    return points.map((p, i) => (named.has(i) ? p.name : ""));
  }

  // Intervals and names, which Chart.js has no element for.
  const annotate = (points, names, ink) => ({
    id: "annotate",
    afterDatasetsDraw(chart) {
      const { ctx, scales } = chart;
      const { top, bottom } = chart.chartArea;
      const inside = (y) => Math.min(Math.max(y, top), bottom);
      ctx.save();
      ctx.textAlign = "center";
      points.forEach((point, i) => {
        const x = scales.x.getPixelForValue(point.bytes);
        if (point.low != null) {
          ctx.strokeStyle = "rgba(148,163,184,0.6)";
          ctx.beginPath();
          ctx.moveTo(x, inside(scales.y.getPixelForValue(point.low)));
          ctx.lineTo(x, inside(scales.y.getPixelForValue(point.high)));
          ctx.stroke();
        }
        ctx.fillStyle = ink;
        ctx.font = (point.is_on_front ? "bold " : "") + "12px sans-serif";
        ctx.fillText(names[i], x, scales.y.getPixelForValue(point.quality) - 12);
      });
      ctx.restore();
    },
  });

  function draw(element) {
    const points = JSON.parse(document.getElementById(element.dataset.pareto).textContent)
      .filter((point) => point.quality != null);
    const ink = document.documentElement.classList.contains("dark") ? "#e2e8f0" : "#1e293b";
    const front = points.filter((point) => point.is_on_front).sort((a, b) => a.bytes - b.bytes);
    const known = points.map((point) => point.relative_p50).filter((value) => value != null);
    const [fast, slow] = [Math.min(...known), Math.max(...known)];
    const colour = (point) => shade(point.relative_p50 == null ? slow : point.relative_p50, fast, slow);
    const at = (point) => ({ x: point.bytes, y: point.quality });
    const measure = points.length ? points[0].measure : "accuracy";
    const bounds = points.flatMap((p) => [p.low, p.quality, p.high]).filter((value) => value != null);
    const canvas = document.createElement("canvas");
    element.append(canvas);
    new window.Chart(canvas, {
      type: "scatter",
      data: {
        datasets: [
          {
            data: points.map(at),
            pointStyle: points.map((p) => (p.is_able ? "circle" : "crossRot")),
            pointRadius: points.map((p) => (p.is_on_front ? 8 : 5)),
            pointHoverRadius: 9,
            pointBackgroundColor: points.map(colour),
            pointBorderColor: points.map((p) => (p.is_on_front ? teal : p.is_able ? ink : colour(p))),
            pointBorderWidth: points.map((p) => (p.is_on_front || !p.is_able ? 3 : 1)),
          },
          { data: front.map(at), type: "line", borderColor: teal, borderDash: [3, 3], pointRadius: 0, pointHitRadius: 0 },
        ],
      },
      options: {
        animation: false,
        maintainAspectRatio: false,
        layout: { padding: { top: 24, right: 40 } },
        scales: {
          x: {
            type: "logarithmic", grid: { color: faint }, grace: "10%",
            title: { display: true, color: ink, text: "size in bytes (logarithmic)" },
            ticks: { color: ink, callback: (value) => size(value), autoSkip: true, maxRotation: 0 },
          },
          y: {
            grid: { color: faint }, grace: "10%", title: { display: true, color: ink, text: measure },
            suggestedMin: Math.min(...bounds), suggestedMax: Math.max(...bounds),
            ticks: { color: ink, callback: (value) => (100 * value).toFixed(1) + " %" },
          },
        },
        plugins: {
          legend: { display: false },
          tooltip: {
            filter: (item) => item.datasetIndex === 0,
            callbacks: { title: (items) => items.map((item) => points[item.dataIndex].name), label: (item) => describe(points[item.dataIndex]) },
          },
        },
      },
      plugins: [annotate(points, label(points), ink)],
    });
  }

  function drawAll() {
    document.querySelectorAll("[data-pareto]:not([data-drawn])").forEach((element) => {
      element.dataset.drawn = "yes";
      draw(element);
    });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", drawAll);
  else drawAll();
  document.addEventListener("htmx:load", drawAll);
})();
