// Airflow says light or dark by a class of the page around this one; alone, the browser says it.
try {
  const outer = window.parent.document.documentElement;
  const follow = () => {
    const theme = ["dark", "light"].find((name) => outer.classList.contains(name));
    if (theme) document.documentElement.style.colorScheme = theme;
  };
  if (window.parent !== window) {
    follow();
    new MutationObserver(follow).observe(outer, { attributeFilter: ["class"] });
  }
} catch (error) { /* framed by another origin */ }
