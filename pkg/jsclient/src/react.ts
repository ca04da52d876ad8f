import { createContext, createElement, type ReactNode, useContext, useEffect, useState } from "react";
import type { Client, User } from "./types.js";

/** What a component knows of the login. */
export interface Login {
  client: Client;
  /** Who is logged in; null for nobody, and while that is not known. */
  user: User | null;
  /** Not known yet. */
  loading: boolean;
  /** Why it could not be found out, or why the login failed. */
  error?: unknown;
}

const Context = createContext<Login | null>(null);

/**
 * Tells the components below who is logged in. It takes the answer of the hosted pages from the address, and calls `onReturn` with the
 * address at which the login began.
 */
export function HandstampProvider(props: { client: Client; onReturn?: (returnTo: string) => void; children?: ReactNode }) {
  const { client, onReturn, children } = props;
  const [login, setLogin] = useState<Omit<Login, "client">>({ user: null, loading: true });
  useEffect(() => {
    let mounted = true;
    const set = (next: Omit<Login, "client">) => {
      if (mounted) setLogin(next);
    };
    const off = client.on("change", (user) => {
      set({ user, loading: false });
    });
    client
      .handleCallback()
      .then(async (back) => {
        const user = await client.user();
        set({ user, loading: false });
        if (back && mounted) onReturn?.(back.returnTo);
      })
      .catch((error: unknown) => {
        set({ user: null, loading: false, error });
      });
    return () => {
      mounted = false;
      off();
    };
    // onReturn is read once: another function at each rendering is no other login.
  }, [client]);
  return createElement(Context.Provider, { value: { client, ...login } }, children);
}

/** Returns the client and who is logged in. */
export function useHandstamp(): Login {
  const login = useContext(Context);
  if (!login) throw new Error("useHandstamp needs a HandstampProvider above it");
  return login;
}
