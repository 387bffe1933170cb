/** Owns the login page: the realm's login, and a field to paste a token where there is no login. */
import { useState } from 'preact/hooks';
import { config } from '../api.ts';
import { startLogin } from '../login.ts';
import { Action } from '../parts/dialog.tsx';
import { begin, loginProblem, sessionOf } from '../session.ts';

export function LoginPage() {
  const settings = config.value;
  const canLogIn = typeof settings?.client_id === 'string';
  return (
    <section class="login">
      {loginProblem.value !== '' && (
        <p class="refusal" role="alert">
          {loginProblem.value}
        </p>
      )}
      <p>See who has which AWS role, and why somebody has none. Administrators see everybody, others themselves.</p>
      {canLogIn && <Action label="Log in with Domino" act={() => startLogin(settings)} />}
      {settings && (
        <details open={!canLogIn}>
          <summary>Paste a token</summary>
          <PasteForm />
        </details>
      )}
    </section>
  );
}

function PasteForm() {
  const [token, setToken] = useState('');
  const submit = (event: Event) => {
    event.preventDefault();
    try {
      begin(sessionOf(token));
    } catch (error) {
      loginProblem.value = (error as Error).message;
    }
  };
  return (
    <form onSubmit={submit}>
      <p>
        In a workspace, <code>curl http://localhost:8899/access-token</code> prints one. It lives for about five minutes
        and stays in this page’s memory.
      </p>
      <label>
        Token
        <input
          type="password"
          autoComplete="off"
          spellcheck={false}
          required
          value={token}
          onInput={(event) => setToken(event.currentTarget.value)}
        />
      </label>
      <button type="submit">Use it</button>
    </form>
  );
}
