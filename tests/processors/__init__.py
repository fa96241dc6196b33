"""Runs a command as a lesser x86 processor would: one without VNNI, or without AVX-512.

The processor itself does it: Linux can have `cpuid` fault (`ARCH_SET_CPUID`, Intel since Ivy
Bridge), and a library that is loaded into every process answers it without the bits. So every
program, ONNX Runtime, numpy, OpenBLAS and OpenVINO included, chooses the kernels of the lesser
processor and runs them at full speed. `/proc/cpuinfo` says the same. Needs Linux on x86-64, root
and a C compiler.
"""
