// What people who listen to pages go by, where the theme and its widgets leave it out.
document.addEventListener("DOMContentLoaded", () => {
  const content = document.getElementById("content");
  if (content && !document.querySelector("main, [role=main]")) {
    content.setAttribute("role", "main");
    content.setAttribute("tabindex", "-1");
  }
});
// The search field of a choice of many is made by its widget, without a name, once all has loaded.
addEventListener("load", () => setTimeout(() => {
  for (const field of document.querySelectorAll(".select2-search__field")) {
    const choice = field.closest(".select2")?.parentElement.querySelector("select");
    const label = choice && document.querySelector(`label[for="${CSS.escape(choice.id)}"]`);
    if (label) field.setAttribute("aria-label", label.textContent.trim());
  }
}));
