# tests of this room
ferry_test(test_cluster NP 1)
ferry_test(test_dense NP 1 2 3 4)
target_link_libraries(test_dense PRIVATE OpenMP::OpenMP_C)
ferry_test(test_krylov NP 1 2 3 4)
