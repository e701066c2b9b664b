# tests of this room
ferry_test(test_options NP 1)
target_sources(test_options PRIVATE ${PROJECT_SOURCE_DIR}/src/cli/options.c ${PROJECT_SOURCE_DIR}/src/cli/json.c)
target_compile_options(test_options PRIVATE "SHELL:-iquote ${PROJECT_SOURCE_DIR}/src/cli")
