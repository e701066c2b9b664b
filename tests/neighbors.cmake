# tests of this room
ferry_test(test_graph NP 1 2 3 4)
