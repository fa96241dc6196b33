// Draws size against quality for every [data-pareto] element from the JSON it names. The page that
// carries one may arrive in parts, so the chart library is loaded when the first one is met.
(function () {
  "use strict";
  const shown = (value, digits) => (value == null ? "–" : value.toFixed(digits));
  const size = (bytes) => (bytes >= 1e6 ? (bytes / 1e6).toFixed(2) + " MB" : (bytes / 1e3).toFixed(1) + " kB");
  const describe = (point) =>
    "<b>" + point.name + "</b><br>" + size(point.bytes) + "<br>" + point.measure + " " +
    shown(100 * point.quality, 2) + " %" +
    (point.low == null ? "" : " (" + shown(100 * point.low, 2) + " to " + shown(100 * point.high, 2) + ")") +
    (point.p50_ms == null ? "" : "<br>p50 " + shown(point.p50_ms, 3) + " ms") +
    (point.relative_p50 == null ? "" : ", " + shown(point.relative_p50, 2) + " × the time of FP32") +
    "<br>" + (point.is_on_front ? "on the front" : "beaten in all three") +
    (point.is_able ? "" : "<br>cannot be promoted");

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
    return points.map((p, i) => (!named.has(i) ? "" : p.is_on_front ? "<b>" + p.name + "</b>" : p.name));
  }

  function draw(element) {
    const points = JSON.parse(document.getElementById(element.dataset.pareto).textContent)
      .filter((point) => point.quality != null);
    const faint = "rgba(148,163,184,0.3)";
    const ink = document.documentElement.classList.contains("dark") ? "#e2e8f0" : "#1e293b";
    const front = points.filter((point) => point.is_on_front).sort((a, b) => a.bytes - b.bytes);
    const speeds = points.map((point) => point.relative_p50);
    const known = speeds.filter((value) => value != null);
    const traces = [
      {
        name: "front", x: front.map((p) => p.bytes), y: front.map((p) => p.quality),
        mode: "lines", line: { color: "#0d9488", dash: "dot", width: 2 }, hoverinfo: "skip", showlegend: false,
      },
      {
        x: points.map((p) => p.bytes), y: points.map((p) => p.quality), mode: "markers+text",
        text: label(points),
        textposition: "top center", cliponaxis: false,
        customdata: points.map(describe), hovertemplate: "%{customdata}<extra></extra>", showlegend: false,
        error_y: {
          type: "data", symmetric: false, color: "rgba(148,163,184,0.6)", thickness: 1,
          array: points.map((p) => (p.high == null ? 0 : p.high - p.quality)),
          arrayminus: points.map((p) => (p.low == null ? 0 : p.quality - p.low)),
        },
        marker: {
          size: points.map((p) => (p.is_on_front ? 15 : 10)),
          symbol: points.map((p) => (p.is_able ? "circle" : "x")),
          color: speeds.map((value) => (value == null ? Math.max(...known, 1) : value)),
          colorscale: "Viridis", reversescale: true, showscale: known.length > 0,
          colorbar: { title: { text: "p50 ÷ FP32" }, thickness: 12 },
          line: { color: points.map((p) => (p.is_on_front ? "#0d9488" : ink)), width: points.map((p) => (p.is_on_front ? 3 : 1)) },
        },
      },
    ];
    const measure = points.length ? points[0].measure : "accuracy";
    window.Plotly.newPlot(element, traces, {
      margin: { l: 70, r: 20, t: 30, b: 55 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink },
      xaxis: { title: { text: "size in bytes (logarithmic)" }, type: "log", tickformat: "~s", gridcolor: faint },
      yaxis: { title: { text: measure, standoff: 8 }, tickformat: ".1%", gridcolor: faint, automargin: true },
    }, { displaylogo: false, responsive: true });
  }

  function drawAll() {
    const waiting = Array.from(document.querySelectorAll("[data-pareto]:not([data-drawn])"));
    if (!waiting.length) return;
    if (window.Plotly) {
      waiting.forEach((element) => { element.dataset.drawn = "yes"; draw(element); });
      return;
    }
    if (document.querySelector("script[data-charts]")) return;
    const script = document.createElement("script");
    script.src = waiting[0].dataset.plotly;
    script.dataset.charts = "yes";
    script.onload = drawAll;
    document.head.append(script);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", drawAll);
  else drawAll();
  document.addEventListener("htmx:load", drawAll);
})();
