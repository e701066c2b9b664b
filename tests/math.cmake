# tests of this room
ferry_test(test_cluster NP 1)
ferry_test(test_eigen NP 1 2 3 4)
target_link_libraries(test_eigen PRIVATE OpenMP::OpenMP_C)
ferry_test(test_krylov NP 1 2 3 4)
