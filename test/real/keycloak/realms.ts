/** Owns what tests make in a real Keycloak: realms with clients and users, their keys, and the tokens that they get. */
import assert from 'node:assert/strict';
import type { Keycloak } from './keycloak.ts';

export interface RealmOptions {
  /** `RS256` unless given. */
  readonly algorithm?: string;
  /** The name under which tokens are issued, where it is not the address that Keycloak is asked by. */
  readonly frontendUrl?: string;
}

export interface Tokens {
  readonly access_token: string;
  readonly refresh_token: string;
  readonly id_token: string;
}

interface Component {
  readonly id: string;
  readonly name: string;
  readonly config: Record<string, string[]>;
}

export interface KeycloakRealm {
  readonly name: string;
  readonly issuer: string;
  /** Logs alice in at a client: `web` unless given. */
  login(client?: string): Promise<Tokens>;
  /** A token of the client `robot`, which has a service account. */
  robot(): Promise<string>;
  /** Has alice's sessions end: Keycloak posts a logout token to the clients that want one. */
  logout(tokens: Tokens): Promise<void>;
  /** Makes a new key the signing one. */
  rotateKeys(name: string, algorithm?: string): Promise<void>;
  /** `passive` keys are published still; disabled ones are not. */
  setKey(name: string, state: 'passive' | 'disabled'): Promise<void>;
}

const password = 'a password of alice';
const secret = 'the secret of the robot';

/** Clients: `web`, `lightweight`, `robot`, and `told`, which gets logouts by its back channel. */
export async function makeRealm(
  keycloak: Keycloak,
  name: string,
  logoutUrl: string,
  { algorithm = 'RS256', frontendUrl }: RealmOptions = {},
): Promise<KeycloakRealm> {
  const { admin, openid, url } = keycloak;
  const attributes = frontendUrl === undefined ? {} : { frontendUrl };
  // The clock of the service is moved by minutes; its tokens are to outlive that.
  const realm = { realm: name, enabled: true, accessTokenLifespan: 7_200, ssoSessionIdleTimeout: 14_400 };
  await admin('POST', '', { ...realm, attributes, defaultSignatureAlgorithm: algorithm });
  const web = { publicClient: true, directAccessGrantsEnabled: true };
  const clients = [
    { clientId: 'web', ...web },
    { clientId: 'lightweight', ...web, attributes: { 'client.use.lightweight.access.token.enabled': 'true' } },
    { clientId: 'told', ...web, attributes: { 'backchannel.logout.url': logoutUrl } },
    { clientId: 'robot', publicClient: false, serviceAccountsEnabled: true, secret },
  ];
  for (const client of clients) await admin('POST', `/${name}/clients`, client);
  const credentials = [{ type: 'password', value: password, temporary: false }];
  const person = { firstName: 'Alice', lastName: 'Example', email: 'alice@example.com', emailVerified: true };
  await admin('POST', `/${name}/users`, { username: 'alice', enabled: true, ...person, credentials });

  // The key of the highest priority signs; the realm's own has 100.
  let priority = 200;
  const gained = async (form: Record<string, string>) => {
    const answer = await openid(name, 'token', form);
    assert.ok(answer.access_token, JSON.stringify(answer));
    return answer as unknown as Tokens;
  };
  return {
    name,
    issuer: `${frontendUrl ?? url}/realms/${name}`,
    login: (client_id = 'web') =>
      gained({ grant_type: 'password', client_id, username: 'alice', password, scope: 'openid' }),
    robot: async () =>
      (await gained({ grant_type: 'client_credentials', client_id: 'robot', client_secret: secret })).access_token,
    logout: async ({ refresh_token }) => void (await openid(name, 'logout', { client_id: 'told', refresh_token })),
    rotateKeys: async (key, rotated = algorithm) => {
      const { id: parentId } = await admin<{ id: string }>('GET', `/${name}`);
      priority += 1;
      const config = { priority: [String(priority)], algorithm: [rotated], keySize: ['2048'] };
      const providerType = 'org.keycloak.keys.KeyProvider';
      await admin('POST', `/${name}/components`, {
        name: key,
        providerId: 'rsa-generated',
        providerType,
        parentId,
        config,
      });
    },
    setKey: async (key, state) => {
      const path = `/${name}/components`;
      const all = await admin<Component[]>('GET', `${path}?type=org.keycloak.keys.KeyProvider`);
      const found = all.find((component) => component.name === key);
      assert.ok(found, `no key ${key}: ${all.map((component) => component.name)}`);
      const config = { ...found.config, active: ['false'], enabled: [String(state === 'passive')] };
      await admin('PUT', `${path}/${found.id}`, { ...found, config });
    },
  };
}
