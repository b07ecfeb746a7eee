// Asks the server that the page came from. The token, where there is one, stays in this tab.

const KEY = "loopscope-token";
const TIMEOUT_MILLISECONDS = 10_000;

const AWAY = [502, 503, 504]; // of a proxy, behind which nobody answers

export class Refused extends Error {} // no token, or a wrong one
export class Gone extends Error {} // the agent that was asked for is not here
export class Silent extends Error {
  // `isLate`: somebody took the question, and did not answer in time.
  constructor(isLate) {
    super("no answer");
    this.isLate = isLate;
  }
}

// A value that outlives a reload, where the browser lets a page keep any; undefined leaves what is kept as it is.
export function remember(storage, key, value) {
  try {
    if (value !== undefined) window[storage].setItem(key, value);
    return window[storage].getItem(key);
  } catch {
    if (value !== undefined) unkept.set(key, value);
    return unkept.get(key) ?? null;
  }
}

const unkept = new Map();

export function tokenFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given === null) return;
  keepToken(given);
  history.replaceState(null, "", location.pathname + location.search);
}

export const keepToken = (token) => remember("sessionStorage", KEY, token);
export const hasToken = () => remember("sessionStorage", KEY) !== null;

export async function ask(path, query) {
  const token = remember("sessionStorage", KEY);
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  const known = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const [status, text] = await get(`${path}?${new URLSearchParams(known)}`, headers);
  if (status === 401) throw new Refused();
  if (status === 404) throw new Gone(text);
  if (AWAY.includes(status)) throw new Silent(false);
  if (status !== 200) throw new Error(`${path} answers with status ${status}`);
  return JSON.parse(text);
}

async function get(address, headers) {
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MILLISECONDS);
    const answer = await fetch(address, { headers, cache: "no-store", signal });
    return [answer.status, await answer.text()];
  } catch (fault) {
    throw new Silent(fault.name === "TimeoutError");
  }
}
