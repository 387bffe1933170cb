/** Owns the shapes of rendered objects that the chart's tests look into, and the skip of tests where helm is not. */
import { helmMissing, objectNamed, type Rendered } from './render.ts';

export interface Variable {
  name: string;
  value: string;
}

export interface Mount {
  name: string;
  mountPath: string;
  readOnly?: boolean;
}

export interface Probe {
  httpGet?: { path: string; port: number; scheme: string };
  exec?: { command: string[] };
  periodSeconds: number;
  failureThreshold: number;
}

export interface Container {
  name: string;
  image: string;
  command?: string[];
  restartPolicy?: string;
  env: Variable[];
  securityContext: Record<string, unknown>;
  resources: { requests: Record<string, string>; limits: Record<string, string> };
  startupProbe?: Probe;
  livenessProbe?: Probe;
  readinessProbe?: Probe;
  lifecycle?: { preStop: { sleep: { seconds: number } } };
  volumeMounts?: Mount[];
}

export interface Workload extends Rendered {
  spec: {
    replicas: number;
    strategy: unknown;
    selector: { matchLabels: Record<string, string> };
    template: {
      metadata: { labels: Record<string, string> };
      spec: {
        serviceAccountName: string;
        terminationGracePeriodSeconds: number;
        securityContext: Record<string, unknown>;
        topologySpreadConstraints?: { topologyKey: string }[];
        containers: Container[];
        volumes?: { name: string; secret?: { secretName: string }; projected?: { sources: unknown[] } }[];
      };
    };
  };
}

export const service = (objects: readonly Rendered[]) => objectNamed<Workload>(objects, 'Deployment', 'irsa-svc');
export const containerOf = ({ spec }: Workload) => spec.template.spec.containers[0] as Container;
export const environment = ({ env }: Pick<Container, 'env'>) =>
  Object.fromEntries(env.map(({ name, value }) => [name, value]));

let isSaid = false;

/** For `before` and tests: skips what needs helm where there is none, and says so once in a run. */
export function needsHelm(this: Mocha.Context): void {
  const missing = helmMissing();
  if (!missing) return;
  if (!isSaid) process.stdout.write(`SKIPPED, all tests that need helm: ${missing}\n`);
  isSaid = true;
  this.skip();
}
