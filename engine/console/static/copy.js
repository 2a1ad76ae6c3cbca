// Copying what is shown once, and not losing it by a slip: a dialog with data-keep closes by its own button alone.
"use strict";
(() => {
  async function copy(field) {
    // clipboards are for secure pages: on plain http from another machine the older way is left
    if (navigator.clipboard && isSecureContext) return navigator.clipboard.writeText(field.value);
    field.select();
    if (!document.execCommand("copy")) throw new Error("not copied");
  }
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const field = document.getElementById(button.dataset.copy);
    let said = "Copied";
    try {
      await copy(field);
    } catch {
      field.select();
      said = "Press Ctrl+C";
    }
    const words = button.firstChild;
    words.textContent = said;
    setTimeout(() => { words.textContent = "Copy"; }, 2000);
  });
  document.getElementById("dialog").addEventListener("cancel", (event) => {
    if (event.target.querySelector("[data-keep]")) event.preventDefault();
  });
})();
