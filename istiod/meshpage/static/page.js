// Live parts ask for themselves every few seconds (htmx); nobody looks at a hidden tab, so nothing is asked from it.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden) event.preventDefault();
});
// A page that can't be had anew says so, and the old figures stay.
const gone = (event) => document.body.classList.toggle("offline", event.type !== "htmx:afterOnLoad");
for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout", "htmx:afterOnLoad"]) {
  document.addEventListener(name, gone);
}
