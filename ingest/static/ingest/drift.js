// Draws the charts of one judgement from the JSON that the page carries.
(function () {
  "use strict";
  const source = document.getElementById("drift-charts");
  if (!source || !window.Plotly) return;
  const data = JSON.parse(source.textContent);
  const isDark = document.documentElement.classList.contains("dark");
  const ink = isDark ? "#e2e8f0" : "#1e293b";
  const layout = (extra) => Object.assign({
    margin: { l: 60, r: 20, t: 10, b: 60 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink },
    legend: { orientation: "h" },
  }, extra);
  const config = { displaylogo: false, responsive: true };
  const draw = (id, traces, extra) => {
    const element = document.getElementById(id);
    if (element) window.Plotly.newPlot(element, traces, layout(extra), config);
  };

  const names = data.bins.map((bin) => bin.name);
  draw("chart-overlay", [
    { type: "bar", name: "Reference", x: names, y: data.bins.map((bin) => bin.reference), marker: { color: "#94a3b8" } },
    { type: "bar", name: "Now", x: names, y: data.bins.map((bin) => bin.current), marker: { color: "#0d9488" } },
  ], { barmode: "group", xaxis: { type: "category" }, yaxis: { title: { text: "share of records" }, tickformat: ".0%" } });
  draw("chart-contributions", [
    { type: "bar", x: names, y: data.bins.map((bin) => bin.contribution), marker: { color: "#d97706" } },
  ], { xaxis: { type: "category" }, yaxis: { title: { text: "part of the PSI" } } });

  const at = data.history.map((item) => item.at);
  // Upright lines: where the incident began, and what rollouts did.
  const marks = (data.markers || []).map((mark) => ({ at: mark.at, words: mark.words, color: "#6366f1" }));
  if (data.onset) marks.push({ at: data.onset, words: "it began", color: "#dc2626" });
  const shapes = marks.map((mark) => ({ type: "line", x0: mark.at, x1: mark.at, yref: "paper", y0: 0, y1: 1, line: { color: mark.color, width: 1, dash: "dash" } }));
  const annotations = marks.map((mark, index) => ({ x: mark.at, yref: "paper", y: 1 - (index % 4) * 0.08, text: mark.words, showarrow: false, xanchor: "left", font: { color: mark.color, size: 11 } }));
  draw("chart-history", [
    { name: "Warning from", x: at, y: data.history.map((item) => item.threshold), mode: "lines", line: { color: "#d97706", dash: "dot" } },
    { name: "Critical from", x: at, y: data.history.map((item) => item.critical), mode: "lines", line: { color: "#dc2626", dash: "dot" }, fill: "tonexty", fillcolor: "rgba(217,119,6,0.12)" },
    {
      name: data.metric, x: at, y: data.history.map((item) => item.value), mode: "lines+markers",
      line: { color: "#0d9488" }, text: data.history.map((item) => item.status + ", " + item.n + " records"),
    },
  ], { shapes, annotations, yaxis: { title: { text: data.metric }, rangemode: "tozero" }, xaxis: { title: { text: "end of the judged windows (UTC)" } } });
})();
