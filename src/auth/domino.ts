/** Owns the calls to Domino's API: who a credential belongs to, and which organizations that user is a member of. */
import { z } from 'zod';
import { boundedText, TooLong } from '../lib/bounded-text.ts';
import { ApiError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import type { Credential } from './token.ts';

/** The user that Domino finds for a credential. For a bad credential it is an anonymous principal, not an error. */
export interface Principal {
  readonly anonymous: boolean;
  readonly admin: boolean;
  /** Domino's user id, which is in the labels of the user's pods. */
  readonly canonicalId?: string;
  readonly canonicalName?: string;
}

/** An organization that the holder of a credential is a member of. */
export interface DominoOrganization {
  readonly name: string;
  /** Missing where this version of Domino gives none. */
  readonly id?: string;
}

export type DominoCall = 'principal' | 'organizations';

/**
 * Both calls forward the credential as it was received. They throw ApiError: `domino_unavailable` when Domino cannot be
 * reached, times out, fails, or answers in another form; `unauthenticated` when it answers 401 or 403.
 */
export interface Domino {
  principal(credential: Credential): Promise<Principal>;
  /** In Domino's order. */
  organizations(credential: Credential): Promise<DominoOrganization[]>;
}

export interface DominoOptions {
  /** `http://nucleus-frontend.domino-platform:80` */
  baseUrl: string;
  /** The timeout of one call with its body, in milliseconds. */
  timeoutMs?: number;
  maxBodyBytes?: number;
  log?: Log;
  /** Called after every call, for metrics. */
  onCall?: (call: DominoCall, ok: boolean) => void;
}

const paths: Record<DominoCall, string> = {
  principal: '/v4/auth/principal',
  organizations: '/v4/organizations/self',
};

// The answers vary by Domino version, so only the fields that decide are read, and these fail closed: `isAnonymous`
// with any value but `false` means anonymous, and only `isAdmin: true` means administrator.
const principalForm = z.looseObject({
  isAnonymous: z.unknown().optional(),
  isAdmin: z.unknown().optional(),
  canonicalId: z.string().nullish(),
  canonicalName: z.string().nullish(),
});
const organizationForm = z.looseObject({ name: z.string().min(1), id: z.string().min(1).optional().catch(undefined) });
const organizationsForm = z.array(organizationForm.or(z.unknown().transform(() => undefined)));

/** Why an answer cannot be used. The message contains no part of the answer or of the credential. */
class Unusable extends Error {}

export function createDomino(options: DominoOptions): Domino {
  const { baseUrl, timeoutMs = 5000, maxBodyBytes = 16 * 1024 * 1024, log, onCall } = options;
  const base = baseUrl.replace(/\/+$/, '');

  async function get(call: DominoCall, credential: Credential): Promise<unknown> {
    const response = await fetch(`${base}${paths[call]}`, {
      headers: { accept: 'application/json', ...headerOf(credential) },
      signal: AbortSignal.timeout(timeoutMs),
      // A redirect leads to a login page at best, and would carry the API key to another host at worst.
      redirect: 'error',
    });
    if (response.status !== 200) {
      await response.body?.cancel();
      if (response.status === 401 || response.status === 403) {
        const cause = `GET ${paths[call]}: status ${response.status}`;
        throw new ApiError('unauthenticated', `Domino does not accept this credential (${cause}).`, { cause });
      }
      throw new Unusable(`status ${response.status}`);
    }
    // An organization lists its members, so answers can be large; above this limit the answer must be wrong.
    const text = await boundedText(response, maxBodyBytes);
    try {
      return JSON.parse(text);
    } catch {
      throw new Unusable('not JSON');
    }
  }

  async function ask<T>(call: DominoCall, credential: Credential, form: z.ZodType<T>): Promise<T> {
    let ok = false;
    try {
      const parsed = form.safeParse(await get(call, credential));
      if (!parsed.success) throw new Unusable(`unexpected shape: ${z.prettifyError(parsed.error)}`);
      ok = true;
      return parsed.data;
    } catch (error) {
      if (error instanceof ApiError) throw error;
      const cause = `GET ${paths[call]}: ${reasonOf(error)}`;
      log?.warn({ cause }, 'a call to Domino failed');
      throw new ApiError('domino_unavailable', 'Domino cannot be asked who you are at the moment.', { cause });
    } finally {
      onCall?.(call, ok);
    }
  }

  return {
    async principal(credential) {
      const { isAnonymous, isAdmin, canonicalId, canonicalName } = await ask('principal', credential, principalForm);
      return {
        anonymous: isAnonymous !== undefined && isAnonymous !== false,
        admin: isAdmin === true,
        ...(canonicalId ? { canonicalId } : {}),
        ...(canonicalName ? { canonicalName } : {}),
      };
    },
    async organizations(credential) {
      const entries = await ask('organizations', credential, organizationsForm);
      const named = entries.flatMap((entry) => entry ?? []);
      if (named.length < entries.length) {
        log?.warn({ left_out: entries.length - named.length }, 'Domino listed organizations without a name');
      }
      return named.map(({ name, id }) => ({ name, ...(id === undefined ? {} : { id }) }));
    },
  };
}

function headerOf(credential: Credential): Record<string, string> {
  return credential.kind === 'bearer'
    ? { authorization: `Bearer ${credential.token}` }
    : { 'x-domino-api-key': credential.key };
}

/** The error itself is not logged: some versions of undici put header values in it, and so the credential. */
function reasonOf(error: unknown): string {
  if (error instanceof Unusable || error instanceof TooLong) return error.message;
  if (!(error instanceof Error)) return 'unknown';
  const code = (error.cause as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' ? `${error.name} ${code}` : error.name;
}
