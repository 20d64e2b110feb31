// Before the first paint, so that nothing flashes. "auto" follows the system.
// In a frame on another site a browser may refuse to store anything.
document.documentElement.dataset.theme = "auto";
try { document.documentElement.dataset.theme = localStorage.getItem("theme") || "auto"; } catch { /* it stays so */ }
