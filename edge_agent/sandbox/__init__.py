"""Guest modules in WebAssembly, run under limits."""
