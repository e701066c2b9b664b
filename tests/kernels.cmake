# tests of this room
ferry_test(test_kernels NP 1 2)
