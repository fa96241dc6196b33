// What the pages do beyond links and forms. It is here and not in the pages' own markup, so that
// the content security policy can refuse every script that is.
"use strict";

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-confirm]");
  if (button && !window.confirm(button.dataset.confirm)) { event.preventDefault(); }
  const copier = event.target.closest("[data-copy]");
  if (copier) {
    event.preventDefault();
    navigator.clipboard.writeText(copier.dataset.copy);
    copier.textContent = "copied";
  }
});

// Enter in the field of a reason would press the first button of the form, whichever that is.
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.matches("[data-no-enter]")) { event.preventDefault(); }
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submits]")) { event.target.form.submit(); }
});

document.addEventListener("submit", (event) => {
  const button = event.target.matches("[data-busy]") && event.target.querySelector("button[type=submit]");
  if (button) { button.disabled = true; button.textContent = "Working…"; }
});

// Hover texts in the viewer's own zone; the server's words stay where scripts do not run.
document.addEventListener("mouseover", (event) => {
  const time = event.target.closest && event.target.closest("time[datetime]");
  if (time) { time.title = new Date(time.dateTime).toLocaleString(); }
});
