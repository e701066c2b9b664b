# tests of this room
ferry_test(test_graph NP 1 2 3 4)
ferry_test(test_evaluate NP 1 2 3 4)
ferry_test(test_weights NP 1 2 3 4)
add_test(NAME check_graph COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/python.sh ${PROJECT_BINARY_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/check_graph.py ${CMAKE_CURRENT_BINARY_DIR}/check_graph.h5ad
  ${CMAKE_CURRENT_SOURCE_DIR}/oracle/neighbors_self.h5ad ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} 2 ${MPIEXEC_PREFLAGS} $<TARGET_FILE:test_weights>)
set_tests_properties(check_graph PROPERTIES PROCESSORS 2 TIMEOUT 120 SKIP_RETURN_CODE 77 LABELS scripts ENVIRONMENT "${FERRY_TEST_ENV};MPIEXEC_TIMEOUT=100")
ferry_test(test_transfer NP 1 2 3 4)
ferry_test(test_quantizer NP 1 2 3 4)
ferry_test(test_lists NP 1 2 4)
ferry_test(test_lists NP 3 ENV "FERRY_RANKS_PER_NODE=1")
target_link_libraries(test_lists PRIVATE OpenMP::OpenMP_C) # threads take parts
ferry_test(test_search NP 1 2 3 4)
ferry_test(test_index_file NP 1 2 4)
ferry_test(test_index_file NP 3 ENV "FERRY_RANKS_PER_NODE=1")
ferry_test(test_neighbors NP 1 2 3 4)
ferry_test(test_diffusion NP 1 2 3 4)
ferry_test(test_joint NP 1 2 3 4)
