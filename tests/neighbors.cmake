# tests of this room
ferry_test(test_graph NP 1 2 3 4)
ferry_test(test_evaluate NP 1 2 3 4)
ferry_test(test_transfer NP 1 2 3 4)
