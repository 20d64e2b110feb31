// What is shown is in the address, after "#": a page, and its filter, order, range and selection. "#tasks?state=failed&show=…"
// Links and the Back button work by it.

export function parse(hash = location.hash) {
  const [page, query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  return { page: page || "overview", params: new URLSearchParams(query) };
}

export function href(page, params = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value !== "" && value !== null && value !== undefined));
  return `#${page}${query.size ? `?${query}` : ""}`;
}

// A link to another page, as it is followed: it keeps the range of time that is shown here.
export function keepRange(link) {
  const { page, params } = parse(link.getAttribute("href"));
  link.setAttribute("href", href(page, { ...Object.fromEntries(params), range: get("range") }));
}

export const get = (name, fallback = "") => parse().params.get(name) ?? fallback;

// Changes parts of the address of this page; null and "" remove one. `push`: Back returns to what was before.
export function set(changes, { push = false } = {}) {
  const { page, params } = parse();
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") params.delete(name);
    else params.set(name, value);
  }
  const next = `#${page}${params.size ? `?${params}` : ""}`;
  if (next === location.hash || (!location.hash && next === "#overview")) return;
  if (push) window.history.pushState(null, "", next);
  else window.history.replaceState(null, "", next);
}
