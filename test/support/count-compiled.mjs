/** Loaded into a replica before its own code: says on stdout each time that a check of the contract is compiled. */
globalThis.Function = new Proxy(globalThis.Function, {
  construct: (target, given) => {
    // Others compile functions too.
    if (new Error().stack.includes('/ajv/')) process.stdout.write('{"msg":"compiled"}\n');
    return Reflect.construct(target, given);
  },
});
