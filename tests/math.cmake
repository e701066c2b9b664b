# tests of this room
ferry_test(test_cluster NP 1)
