// Where the page is: `#/kb/NAME/doc/ID?at=12` as decoded segments and a query.

export type Place = { path: string[]; query: URLSearchParams };

function read(): Place {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { path: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

/** An address that somebody cut in half is no reason to show nothing. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

class Router {
  place = $state.raw<Place>(read());

  constructor() {
    addEventListener("hashchange", () => (this.place = read()));
  }

  get page(): string {
    return this.place.path[0] ?? "chat";
  }
}

export const router = new Router();

/** The address of a place inside the page. */
export function to(segments: string[], query: Record<string, string | number | undefined> = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return `#/${segments.map(encodeURIComponent).join("/")}${search && `?${search}`}`;
}

/** Goes there; `replace` leaves no step in the history. */
export function go(address: string, replace = false): void {
  if (replace) {
    history.replaceState(null, "", address);
    router.place = read();
  } else {
    location.hash = address;
  }
}
