# tests of this room
ferry_test(test_cost NP 1 2 3 4)
ferry_test(test_sinkhorn NP 1 2 3 4 TIMEOUT 300)
ferry_test(test_accelerate NP 1 2 3 4)
ferry_test(test_groups NP 1 2 3 4)
ferry_test(test_sparsify NP 1 2 3 4 TIMEOUT 300)
ferry_test(test_apply NP 1 2 3 4 TIMEOUT 300)
ferry_test(test_transition NP 1 2 3 4 TIMEOUT 300)
ferry_test(test_plan NP 1 2 3 4 TIMEOUT 300)
