/** Owns the validation of objects in the Kubernetes stand-in: names, labels, annotations, sizes, and rules of each kind. */
import { mutationCauses } from './domsed-schema.ts';
import { apiVersionOf, type Kind, type KubernetesObject } from './kubernetes-kinds.ts';
import { badRequest, type Cause, invalid } from './kubernetes-status.ts';

const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const dnsLabel = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const labelValue = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;
const qualifiedName = /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const microTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)$/;

export const maxConfigMapBytes = 1024 * 1024;
export const maxAnnotationBytes = 256 * 1024;

/** Throws the API server's answer to an invalid object: 400 for a wrong type, 422 for a wrong value. */
export function validate(kind: Kind, object: KubernetesObject): void {
  const metadata = object.metadata ?? {};
  const name = metadata.name ?? '';
  requireStrings(kind, metadata.labels, 'metadata.labels');
  requireStrings(kind, metadata.annotations, 'metadata.annotations');
  const causes: Cause[] = [...nameCauses(kind, name)];
  for (const [key, value] of Object.entries(metadata.labels ?? {})) {
    if (!qualifiedName.test(key)) causes.push(wrong('metadata.labels', key, 'name part must be a qualified name'));
    if (value.length > 63) causes.push(wrong('metadata.labels', value, 'must be no more than 63 characters'));
    else if (!labelValue.test(value))
      causes.push(wrong('metadata.labels', value, 'a valid label must be alphanumeric'));
  }
  let annotationBytes = 0;
  for (const [key, value] of Object.entries(metadata.annotations ?? {})) {
    if (!qualifiedName.test(key)) causes.push(wrong('metadata.annotations', key, 'name part must be a qualified name'));
    annotationBytes += Buffer.byteLength(key) + Buffer.byteLength(value);
  }
  if (annotationBytes > maxAnnotationBytes) causes.push(tooLong('metadata.annotations', maxAnnotationBytes));
  if (kind.kind === 'ConfigMap') causes.push(...configMapCauses(kind, object));
  if (kind.kind === 'Event') causes.push(...eventCauses(object));
  if (kind.kind === 'Lease') causes.push(...leaseCauses(kind, object));
  if (kind.kind === 'Mutation')
    causes.push(...mutationCauses({ ...object, apiVersion: apiVersionOf(kind), kind: kind.kind }));
  if (causes.length > 0) throw invalid(kind, name, causes);
}

function nameCauses(kind: Kind, name: string): Cause[] {
  if (name === '') {
    const message = 'Required value: name or generateName is required';
    return [{ reason: 'FieldValueRequired', field: 'metadata.name', message }];
  }
  const fits = kind.labelName ? dnsLabel.test(name) && name.length <= 63 : subdomain.test(name) && name.length <= 253;
  const form = kind.labelName ? 'label' : 'subdomain';
  const rule = `a lowercase RFC 1123 ${form} must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character`;
  return fits ? [] : [wrong('metadata.name', name, rule)];
}

function configMapCauses(kind: Kind, object: KubernetesObject): Cause[] {
  const causes: Cause[] = [];
  let bytes = 0;
  for (const field of ['data', 'binaryData']) {
    const data = object[field] as Record<string, string> | undefined;
    requireStrings(kind, data, field);
    for (const [key, value] of Object.entries(data ?? {})) {
      if (!/^[-._a-zA-Z0-9]{1,253}$/.test(key) || key === '.' || key.startsWith('..')) {
        const rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        causes.push(wrong(`${field}[${key}]`, key, rule));
      }
      bytes += field === 'data' ? Buffer.byteLength(value) : Buffer.byteLength(value, 'base64');
    }
  }
  if (bytes > maxConfigMapBytes) causes.push(tooLong('[]', maxConfigMapBytes));
  return causes;
}

function eventCauses({ metadata, involvedObject }: KubernetesObject): Cause[] {
  const { namespace } = (involvedObject ?? {}) as { namespace?: string };
  // Events about cluster-scoped objects are in `default`.
  if (namespace === metadata?.namespace || (!namespace && metadata?.namespace === 'default')) return [];
  return [wrong('involvedObject.namespace', namespace ?? '', 'does not match event.namespace')];
}

function leaseCauses(kind: Kind, object: KubernetesObject): Cause[] {
  const spec = (object.spec ?? {}) as Record<string, unknown>;
  for (const field of ['acquireTime', 'renewTime']) {
    const time = spec[field];
    // Go's MicroTime needs six digits: it refuses the milliseconds of a JavaScript Date.
    if (time !== undefined && time !== null && !(typeof time === 'string' && microTime.test(time))) {
      throw unreadable(kind, `parsing time ${JSON.stringify(time)} as "2006-01-02T15:04:05.000000Z07:00"`);
    }
  }
  const causes: Cause[] = [];
  const { leaseDurationSeconds: duration, leaseTransitions: transitions } = spec;
  if (typeof duration === 'number' && duration <= 0) {
    causes.push(wrong('spec.leaseDurationSeconds', duration, 'must be greater than 0'));
  }
  if (typeof transitions === 'number' && transitions < 0) {
    causes.push(wrong('spec.leaseTransitions', transitions, 'must be greater than or equal to 0'));
  }
  return causes;
}

function requireStrings(kind: Kind, values: unknown, field: string): void {
  if (values === undefined || values === null) return;
  for (const value of Object.values(values)) {
    if (typeof value === 'string') continue;
    throw unreadable(
      kind,
      `json: cannot unmarshal ${typeof value} into Go struct field ${kind.kind}.${field} of type string`,
    );
  }
}

function unreadable(kind: Kind, why: string) {
  return badRequest(`${kind.kind} in version "${kind.version}" cannot be handled as a ${kind.kind}: ${why}`);
}

function wrong(field: string, value: unknown, rule: string): Cause {
  return { field, message: `Invalid value: ${JSON.stringify(value)}: ${rule}` };
}

function tooLong(field: string, limit: number): Cause {
  return { reason: 'FieldValueTooLong', field, message: `Too long: may not be more than ${limit} bytes` };
}
