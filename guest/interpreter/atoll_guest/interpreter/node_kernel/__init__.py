"""A Jupyter kernel for JavaScript and TypeScript on Node.js; the code beside this file is JavaScript.

    main.js        the kernel's loop: requests, replies, output
    zmtp.js        ZeroMQ's wire protocol, listening side
    evaluate.js    code → value, by V8's console mode (top-level await, declarations may be repeated)
    interrupt.js   ends running code, from a thread of its own
    rewrite.js     `import … from` → `await import(…)`; TypeScript → JavaScript (pure)

Why our own: see docs/adr on kernels. No package is needed but `amaro` (Node.js' own type stripper), for
TypeScript alone.
"""
