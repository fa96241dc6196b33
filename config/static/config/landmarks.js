// The theme has no main landmark; people who listen to pages jump by it.
document.addEventListener("DOMContentLoaded", () => {
  const content = document.getElementById("content");
  if (content && !document.querySelector("main, [role=main]")) {
    content.setAttribute("role", "main");
    content.setAttribute("tabindex", "-1");
  }
});
