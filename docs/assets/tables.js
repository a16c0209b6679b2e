// A table or a printed output that is wider than its box gets a line above it that says so.
function mark(box, block, text) {
  const wide = box.scrollWidth > box.clientWidth + 1;
  const hint = block.previousElementSibling;
  const hinted = hint !== null && hint.classList.contains("scroll-hint");
  if (wide && !hinted) {
    const line = document.createElement("p");
    line.className = "scroll-hint";
    line.textContent = text;
    block.before(line);
    box.tabIndex = 0; // arrow keys scroll it
  } else if (!wide && hinted) {
    hint.remove();
  }
  box.classList.toggle("scrolls", wide);
}

function markWide() {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap")) {
    mark(box, box, "More columns to the right: scroll the table sideways →");
  }
  for (const box of document.querySelectorAll(".language-text pre > code")) {
    mark(box, box.closest(".language-text"), "More to the right: scroll sideways →");
  }
}

addEventListener("load", markWide);
addEventListener("resize", markWide);
document.addEventListener("toggle", markWide, true); // a folded section was opened
