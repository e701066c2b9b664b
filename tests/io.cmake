# tests of this room
ferry_test(test_write NP 1 2 3 4)
