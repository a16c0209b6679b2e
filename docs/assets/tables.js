// A table that is wider than its box gets a line above it that says how to see the rest.
function markWideTables() {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap")) {
    const wide = box.scrollWidth > box.clientWidth + 1;
    const hint = box.previousElementSibling;
    const hinted = hint !== null && hint.classList.contains("table-hint");
    if (wide && !hinted) {
      const line = document.createElement("p");
      line.className = "table-hint";
      line.textContent = "More columns to the right: scroll the table sideways →";
      box.before(line);
      box.tabIndex = 0; // arrow keys scroll it
    } else if (!wide && hinted) {
      hint.remove();
    }
    box.classList.toggle("table-scrolls", wide);
  }
}

addEventListener("load", markWideTables);
addEventListener("resize", markWideTables);
document.addEventListener("toggle", markWideTables, true); // a folded section was opened
