/** Proves the sidecar's profiles with the tools that this machine has; test/real/tools has those that must be fetched. */
import { describeTools } from './matrix.ts';
import { cheapTools, pythonTools } from './tools.ts';

describeTools('the tools of a data scientist', [...cheapTools, ...pythonTools(() => ({ program: 'python3' }))]);
