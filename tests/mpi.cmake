# tests of this room
ferry_test(test_agree NP 1 2 3 4)
ferry_test(test_abort NP 1 2 3 4 FAILS "disk gone")
ferry_test(test_memory NP 1 2 3 4)
ferry_test(test_shard NP 1)
ferry_test(test_exchange NP 1 2 3 4)
ferry_test(test_fetch NP 1 2 3 4)
ferry_test(test_reduce NP 1 2 3 4)
ferry_test(test_grid NP 1 2 3 4)

# which room may include which
add_test(NAME layers COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/layers.sh ${PROJECT_SOURCE_DIR})
add_test(NAME layers.self COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/layers.sh ${PROJECT_SOURCE_DIR} --self)
