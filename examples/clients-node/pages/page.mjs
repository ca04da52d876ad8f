// What the pages have in common: a line that says who is logged in, and buttons for what the library can do.

// offer shows the user (nothing: nobody), and lets each button run the action of its name.
export function offer(user, actions) {
  const line = document.getElementById('me');
  for (const [name, run] of Object.entries(actions)) {
    document.getElementById(name).onclick = () => Promise.resolve().then(run).catch((error) => { line.textContent = `${name} failed: ${error}`; });
  }
  line.textContent = user ? JSON.stringify(user) : 'nobody';
}

// refreshed shows that a refresh gave new tokens, an ID token among them.
export function refreshed(before, after) {
  if (!after.access || after.access === before.access) throw new Error('no new access token');
  if (!after.id || after.id === before.id) throw new Error('no new ID token');
  document.getElementById('refreshed').textContent = 'new tokens';
}
