# tests of this room
ferry_test(test_kernels NP 1 2)
ferry_test(test_scan NP 1 2)
ferry_test(test_large NP 1)
ferry_test(bench_scan)    # built, not run: bench_scan [rows [table]]
