// Asks the server that the page came from. The token, where there is one, stays in this tab.

const KEY = "loopscope-token";
const TIMEOUT_MILLISECONDS = 10_000;

export class Refused extends Error {} // no token, or a wrong one
export class Gone extends Error {} // the agent that was asked for is not here

export function tokenFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given === null) return;
  sessionStorage.setItem(KEY, given);
  history.replaceState(null, "", location.pathname + location.search);
}

export const keepToken = (token) => sessionStorage.setItem(KEY, token);
export const hasToken = () => sessionStorage.getItem(KEY) !== null;

export async function ask(path, query) {
  const token = sessionStorage.getItem(KEY);
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  const known = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const answer = await fetch(`${path}?${new URLSearchParams(known)}`, {
    headers,
    cache: "no-store",
    signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS),
  });
  if (answer.status === 401) throw new Refused();
  if (answer.status === 404) throw new Gone((await answer.json()).error);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}
