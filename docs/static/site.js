// What scrolls can be reached by keyboard, each landmark has a name, and arguments of signatures are not definitions.
addEventListener("load", () => {
  for (const part of document.querySelectorAll("pre, .table-wrapper, .katex-display"))
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
  for (const list of document.querySelectorAll("dt.sig > dl"))
    list.outerHTML = list.outerHTML.replace(/<(\/?)d[ld]\b/g, "<$1div");
  document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "Site");
  document.querySelector(".toc-drawer")?.setAttribute("aria-label", "This page");
});

// Search results show prose, not code, tables or the title again.
document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return;
  const text = Search.htmlToText;
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    for (const part of page.querySelectorAll("pre, table, h1, dt.sig")) if (!part.id) part.remove();
    return text(page.documentElement.outerHTML, anchor);
  };
});
