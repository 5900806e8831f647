// Before anything is drawn, so that no page flashes white at night.
(() => {
  try {
    const chosen = localStorage.getItem("steadfast-theme");
    if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  } catch {
    // A browser that keeps nothing follows the system.
  }
})();
