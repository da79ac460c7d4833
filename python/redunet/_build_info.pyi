# `_build_info.py` is written by the build (CMakeLists.txt); a source tree that was never built has none.
cpu_missing: str | None  # why the CPU engine was not built, in words that follow "because"; None: it was
compiler: str | None  # for example "GNU 12.2.0"
build_type: str  # CMake's build type, for example "Release"
simd_flags: dict[str, str]  # SIMD level -> the flags that its kernels were compiled with
