import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { createClient } from "@handstamp/client";
import { HandstampProvider, useHandstamp } from "@handstamp/client/react";

const client = createClient({ issuer: ISSUER, clientId: "spa-react", scope: "openid email account", transport: "cookie" });

function Devices() {
  const [devices, setDevices] = useState(null);
  const load = async () => {
    const answer = await client.fetch(`${ISSUER}/v1/sessions`);
    setDevices((await answer.json()).sessions);
  };
  if (!devices) return <button id="devices" onClick={load}>My devices</button>;
  return <ul id="device-list">{devices.map((one) => <li key={one.id}>{one.user_agent}</li>)}</ul>;
}

function App() {
  const { user, loading, error } = useHandstamp();
  if (loading) return <p>…</p>;
  if (error) return <p role="alert">{error.message} <button onClick={() => location.reload()}>Try again</button></p>;
  if (!user) return <button id="login" onClick={() => client.login()}>Log in</button>;
  return (
    <>
      <h1 id="user">{user.email}</h1>
      <Devices />
      <button id="logout" onClick={() => client.logout()}>Log out</button>
      <button id="logout-everywhere" onClick={() => client.logout({ everywhere: true })}>Log out everywhere</button>
    </>
  );
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <HandstampProvider client={client} onReturn={(to) => history.replaceState(null, "", to)}>
      <App />
    </HandstampProvider>
  </StrictMode>,
);
