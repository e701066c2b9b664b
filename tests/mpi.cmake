# tests of this room
ferry_test(test_agree NP 1 2 3 4)
ferry_test(test_abort NP 1 2 3 4 FAILS "disk gone")
ferry_test(test_memory NP 1 2 3 4)
ferry_test(test_shard NP 1)
