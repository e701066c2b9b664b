# tests of this room
ferry_test(test_write NP 1 2 3 4 TIMEOUT 240)
ferry_test(test_stored NP 1 2)
ferry_test(test_copy NP 1 2 3)
ferry_test(test_crash)
add_test(NAME test_crash.np3 COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/test_crash.sh 3 $<TARGET_FILE:test_crash> ${MPIEXEC_EXECUTABLE} ${MPIEXEC_PREFLAGS} ${MPIEXEC_NUMPROC_FLAG})
set_tests_properties(test_crash.np3 PROPERTIES PROCESSORS 3 TIMEOUT 120 LABELS "np3" ENVIRONMENT "${FERRY_TEST_ENV};MPIEXEC_TIMEOUT=100")
add_test(NAME check_anndata COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/python.sh ${PROJECT_BINARY_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/check_anndata.py ${CMAKE_CURRENT_BINARY_DIR}/check_anndata.h5ad
  ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} 2 ${MPIEXEC_PREFLAGS} $<TARGET_FILE:test_write>)
set_tests_properties(check_anndata PROPERTIES PROCESSORS 2 TIMEOUT 120 SKIP_RETURN_CODE 77 LABELS scripts ENVIRONMENT "${FERRY_TEST_ENV};MPIEXEC_TIMEOUT=100")
ferry_test(test_encodings NP 1 3)
ferry_test(test_read NP 1 2 3 4)
ferry_test(test_malformed NP 1 2 3 4)
target_sources(test_malformed PRIVATE make_files.c)
ferry_test(make_files) # built, not run: make_files DIR fills a folder with the malformed files
target_compile_definitions(make_files PRIVATE MAKE_FILES_MAIN)
ferry_test(test_select NP 1 2 3 4)
ferry_test(test_scratch NP 1 2 3)
ferry_test(test_scratch NP 4 ENV "FERRY_RANKS_PER_NODE=1")
