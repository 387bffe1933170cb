/** Owns the writing verbs of the Kubernetes stand-in: create, update, patch, delete, with the real conflict rules. */
import { isDeepStrictEqual } from 'node:util';
import { apiVersionOf, type Kind, type KubernetesObject, kindNamed, type Metadata } from './kubernetes-kinds.ts';
import { applyPatchType, patched } from './kubernetes-patch.ts';
import { alreadyExists, badRequest, conflict, invalid, notFound, StatusError } from './kubernetes-status.ts';
import { type Entry, objectOf, type Store } from './kubernetes-store.ts';
import { validate } from './kubernetes-validate.ts';

export interface Target {
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string;
  /** Only `status` is supported: a write to it changes nothing else. */
  readonly subresource: string | undefined;
  readonly dryRun: boolean;
}

export interface DeleteOptions {
  readonly gracePeriodSeconds?: number;
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string };
}

export interface Written {
  readonly code: 200 | 201;
  readonly entry: Entry;
}

type Admit = (kind: Kind, object: KubernetesObject) => KubernetesObject;
type Existing = KubernetesObject & { metadata: Metadata };

export class Writes {
  readonly #store: Store;
  readonly #gracefulPods: () => boolean;
  readonly #admit: Admit;

  /** @param admit applies mutating webhooks to an object at creation. */
  constructor(store: Store, gracefulPods: () => boolean, admit: Admit) {
    this.#store = store;
    this.#gracefulPods = gracefulPods;
    this.#admit = admit;
  }

  create(target: Target, body: unknown): Written {
    const { kind } = target;
    const given = this.#readObject(target, body);
    if (given.metadata.resourceVersion) {
      throw new StatusError(500, 'resourceVersion should not be set on objects to be created', '');
    }
    const { name: asked, generateName } = given.metadata;
    if (!asked && generateName) given.metadata.name = generateName + randomSuffix();
    kind.defaults(given);
    const object = this.#admit(kind, given);
    const { deletionTimestamp: _, deletionGracePeriodSeconds: __, ...metadata } = object.metadata ?? {};
    object.metadata = { ...metadata, ...this.#store.birth() };
    validate(kind, object);
    const name = metadata.name ?? '';
    if (kind.kind === 'Pod') this.#requireAccount(target.namespace, name, object);
    if (this.#store.find(kind, target.namespace, name)) throw alreadyExists(kind, name);
    return { code: 201, entry: this.#commit(target, object) };
  }

  /** Every namespace has `default`, although the stand-in has no controller that creates it. */
  #requireAccount(namespace: string, pod: string, { spec }: KubernetesObject): void {
    const { serviceAccountName: account = 'default' } = (spec ?? {}) as { serviceAccountName?: string };
    if (account === 'default' || this.#store.find(kindNamed('serviceaccounts'), namespace, account)) return;
    const why = `error looking up service account ${namespace}/${account}: serviceaccount "${account}" not found`;
    throw new StatusError(403, `pods "${pod}" is forbidden: ${why}`, 'Forbidden', { name: pod, kind: 'pods' });
  }

  update(target: Target, body: unknown): Written {
    const { kind, namespace, name } = target;
    const object = this.#readObject(target, body);
    if (object.metadata.name !== name) {
      throw badRequest(`the name of the object (${object.metadata.name}) does not match the name on the URL (${name})`);
    }
    const entry = this.#store.find(kind, namespace, name);
    if (!entry) {
      if (object.metadata.uid) throw conflict(kind, name, uidMismatch(object.metadata.uid, ''));
      if (!kind.createsOnUpdate || object.metadata.resourceVersion) throw notFound(kind, name);
      return this.create(target, object);
    }
    if (kind.updateNeedsVersion && !object.metadata.resourceVersion) {
      const message = 'Invalid value: 0x0: must be specified for an update';
      throw invalid(kind, name, [{ field: 'metadata.resourceVersion', message }]);
    }
    return { code: 200, entry: this.#replace(target, entry, object) };
  }

  patch(target: Target, body: unknown, contentType: string): Written {
    const { kind, namespace, name } = target;
    const entry = this.#store.find(kind, namespace, name);
    if (!entry) {
      if (contentType !== applyPatchType) throw notFound(kind, name);
      const object = this.#readObject(target, body);
      return this.create(target, { ...object, metadata: { ...object.metadata, name } });
    }
    const object = patched(objectOf(kind, entry), body, contentType, kind.custom);
    if (object.metadata?.name !== name) {
      throw badRequest(
        `the name of the object (${object.metadata?.name}) does not match the name on the URL (${name})`,
      );
    }
    return { code: 200, entry: this.#replace(target, entry, this.#readObject(target, object)) };
  }

  /** Returns the last state of the object: removed, or with a deletionTimestamp when it lingers. */
  remove(target: Target, options: DeleteOptions): { entry: Entry; gone: boolean } {
    const { kind, namespace, name } = target;
    const entry = this.#store.find(kind, namespace, name);
    if (!entry) throw notFound(kind, name);
    const { uid, resourceVersion } = options.preconditions ?? {};
    if (uid !== undefined && uid !== entry.uid) throw conflict(kind, name, uidMismatch(uid, entry.uid));
    if (resourceVersion !== undefined && resourceVersion !== String(entry.version)) {
      throw conflict(
        kind,
        name,
        `the ResourceVersion in the precondition (${resourceVersion}) does not match the ResourceVersion in record (${entry.version}). The object might have been modified`,
      );
    }
    if (target.dryRun) return { entry, gone: true };
    const object = objectOf(kind, entry);
    const grace = this.#graceSeconds(kind, object, options);
    const held = (object.metadata.finalizers ?? []).length > 0 && (kind.kind !== 'Pod' || this.#gracefulPods());
    if (grace === 0 && !held) return { entry: this.#store.erase(kind, entry), gone: true };
    object.metadata.deletionTimestamp ??= this.#store.timestamp(grace);
    // A second delete can only shorten the grace period, as the kubelet's final one does with zero.
    object.metadata.deletionGracePeriodSeconds = Math.min(grace, object.metadata.deletionGracePeriodSeconds ?? grace);
    return { entry: this.#store.write(kind, object), gone: false };
  }

  #graceSeconds(kind: Kind, object: Existing, options: DeleteOptions): number {
    if (kind.kind !== 'Pod' || !this.#gracefulPods()) return 0;
    const { phase } = (object.status ?? {}) as { phase?: string };
    if (phase === 'Succeeded' || phase === 'Failed') return 0;
    const { terminationGracePeriodSeconds = 30 } = (object.spec ?? {}) as { terminationGracePeriodSeconds?: number };
    return options.gracePeriodSeconds ?? terminationGracePeriodSeconds;
  }

  #replace(target: Target, entry: Entry, wanted: Existing): Entry {
    const { kind, name } = target;
    const current = objectOf(kind, entry);
    const { resourceVersion, uid } = wanted.metadata;
    if (uid && uid !== entry.uid) throw conflict(kind, name, uidMismatch(uid, entry.uid));
    if (resourceVersion && resourceVersion !== String(entry.version)) throw conflict(kind, name);
    const object =
      target.subresource === 'status' ? { ...current, status: wanted.status } : keepSystemFields(current, wanted);
    validate(kind, object);
    const done =
      object.metadata.deletionTimestamp !== undefined &&
      (object.metadata.finalizers ?? []).length === 0 &&
      (object.metadata.deletionGracePeriodSeconds ?? 0) === 0;
    if (done && !target.dryRun) return this.#store.erase(kind, entry);
    return this.#commit(target, object);
  }

  #commit(target: Target, object: KubernetesObject): Entry {
    return target.dryRun ? this.#store.render(target.kind, object, 0) : this.#store.write(target.kind, object);
  }

  #readObject({ kind, namespace }: Target, body: unknown): Existing {
    if (typeof body !== 'object' || body === null || Array.isArray(body)) throw badRequest('the body is not an object');
    const object = structuredClone(body) as KubernetesObject;
    const version = apiVersionOf(kind);
    if ((object.kind ?? kind.kind) !== kind.kind || (object.apiVersion ?? version) !== version) {
      throw badRequest(
        `the object provided is ${object.apiVersion}, Kind=${object.kind}; expected ${version}, Kind=${kind.kind}`,
      );
    }
    const metadata = { ...object.metadata };
    if (!kind.namespaced) delete metadata.namespace;
    else if (metadata.namespace && metadata.namespace !== namespace) {
      throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
    } else metadata.namespace = namespace;
    return { ...object, metadata };
  }
}

/** Keeps the fields that only the server may set, whatever the client sent. */
function keepSystemFields(current: Existing, wanted: Existing): Existing {
  const { deletionTimestamp: _, deletionGracePeriodSeconds: __, ...metadata } = wanted.metadata;
  for (const field of ['uid', 'creationTimestamp', 'deletionTimestamp', 'deletionGracePeriodSeconds'] as const) {
    if (current.metadata[field] !== undefined) Object.assign(metadata, { [field]: current.metadata[field] });
  }
  const object: Existing = { ...wanted, metadata };
  // A PUT without status does not clear it: the client leaves the status to the kubelet.
  if (object.status === undefined && current.status !== undefined) object.status = current.status;
  return isDeepStrictEqual(object, current) ? current : object;
}

function uidMismatch(wanted: string, found: string): string {
  return `Precondition failed: UID in precondition: ${wanted}, UID in object meta: ${found}`;
}

function randomSuffix(): string {
  const letters = 'bcdfghjklmnpqrstvwxz2456789';
  return Array.from({ length: 5 }, () => letters[Math.floor(Math.random() * letters.length)]).join('');
}
