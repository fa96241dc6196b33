// Draws the charts of one judgement from the JSON that the page carries. Chart.js comes with the
// admin's theme.
(function () {
  "use strict";
  const source = document.getElementById("drift-charts");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const isDark = document.documentElement.classList.contains("dark");
  const ink = isDark ? "#e2e8f0" : "#1e293b";
  const paper = isDark ? "rgba(15,23,42,0.8)" : "rgba(255,255,255,0.85)";
  const grid = { color: "rgba(148,163,184,0.3)" };
  const axis = (text, extra) => Object.assign(
    { grid, ticks: { color: ink }, title: { display: Boolean(text), color: ink, text } }, extra,
  );
  const draw = (id, type, labels, datasets, x, y, callbacks, plugins) => {
    const element = document.getElementById(id);
    if (!element) return;
    const canvas = document.createElement("canvas");
    element.append(canvas);
    element.dataset.drawn = "yes";
    new window.Chart(canvas, {
      type,
      data: { labels, datasets },
      options: {
        animation: false,
        maintainAspectRatio: false,
        scales: { x, y },
        plugins: {
          legend: { display: datasets.length > 1, labels: { color: ink } },
          tooltip: { callbacks: callbacks || {} },
        },
      },
      plugins: plugins || [],
    });
  };

  const names = data.bins.map((bin) => bin.name);
  const percent = { ticks: { color: ink, callback: (value) => (100 * value).toFixed(0) + " %" } };
  draw("chart-overlay", "bar", names, [
    { label: "Reference", data: data.bins.map((bin) => bin.reference), backgroundColor: "#94a3b8" },
    { label: "Now", data: data.bins.map((bin) => bin.current), backgroundColor: "#0d9488" },
  ], axis(""), axis("share of records", percent));
  draw("chart-contributions", "bar", names, [
    { label: "Part", data: data.bins.map((bin) => bin.contribution), backgroundColor: "#d97706" },
  ], axis(""), axis("part of the PSI"));

  const past = data.history;
  const when = (text) => Date.parse(text);
  const stamp = (time) => new Date(time).toISOString().slice(0, 16).replace("T", " ");
  const line = (key) => past.map((item) => ({ x: when(item.at), y: item[key] }));
  // Upright lines: where the incident began, and what rollouts did.
  const marks = (data.markers || []).map((mark) => ({ at: mark.at, words: mark.words, color: "#6366f1" }));
  if (data.onset) marks.push({ at: data.onset, words: "it began", color: "#dc2626" });
  marks.sort((a, b) => when(a.at) - when(b.at));
  const ROWS = 5, ROW = 14;
  const upright = {
    id: "upright",
    afterDatasetsDraw(chart) {
      const { ctx, chartArea, scales } = chart;
      ctx.save();
      ctx.font = "11px sans-serif";
      ctx.setLineDash([5, 4]);
      marks.forEach((mark, index) => {
        const x = scales.x.getPixelForValue(when(mark.at));
        ctx.strokeStyle = mark.color;
        ctx.beginPath();
        ctx.moveTo(x, chartArea.top);
        ctx.lineTo(x, chartArea.bottom);
        ctx.stroke();
        // Beside its line, on the side where there is room, and readable on what is drawn below.
        const width = ctx.measureText(mark.words).width;
        const left = x + 3 + width > chartArea.right ? x - 3 - width : x + 3;
        const top = chartArea.top + 2 + (index % ROWS) * ROW;
        ctx.fillStyle = paper;
        ctx.fillRect(left - 1, top, width + 2, ROW - 1);
        ctx.fillStyle = mark.color;
        ctx.fillText(mark.words, left, top + 11);
      });
      ctx.restore();
    },
  };
  const times = [...past.map((item) => item.at), ...marks.map((mark) => mark.at)].map(when);
  draw("chart-history", "line", undefined, [
    { label: "Warning from", data: line("threshold"), borderColor: "#d97706", borderDash: [3, 3], pointRadius: 0 },
    {
      label: "Critical from", data: line("critical"), borderColor: "#dc2626", borderDash: [3, 3], pointRadius: 0,
      fill: "-1", backgroundColor: "rgba(217,119,6,0.12)",
    },
    { label: data.metric, data: line("value"), borderColor: "#0d9488", backgroundColor: "#0d9488" },
  ], axis("end of the judged windows (UTC)", {
    type: "linear", min: Math.min(...times), max: Math.max(...times),
    ticks: { color: ink, callback: (value) => stamp(value), maxRotation: 0, maxTicksLimit: 6 },
  }), axis(data.metric, {
    // Room above the course for the words beside the lines.
    beginAtZero: true, grace: marks.length ? "40%" : 0,
  }), {
    title: (items) => items.slice(0, 1).map((item) => stamp(item.parsed.x)),
    afterBody: (items) => items.slice(0, 1).map((item) => past[item.dataIndex].status + ", " + past[item.dataIndex].n + " records"),
  }, [upright]);
})();
