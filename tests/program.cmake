# tests of this room
ferry_test(test_planner NP 1)
ferry_test(test_options NP 1)
target_sources(test_options PRIVATE ${PROJECT_SOURCE_DIR}/src/cli/options.c ${PROJECT_SOURCE_DIR}/src/cli/json.c)
target_compile_options(test_options PRIVATE "SHELL:-iquote ${PROJECT_SOURCE_DIR}/src/cli")

# Scripts. Exit code 77: skipped, and the output says why.
function(ferry_script name)
  cmake_parse_arguments(T "" "TIMEOUT;PROCESSORS" "COMMAND" ${ARGN})
  add_test(NAME ${name} COMMAND bash ${T_COMMAND})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT ${T_TIMEOUT} PROCESSORS ${T_PROCESSORS} LABELS scripts
    ENVIRONMENT "${FERRY_TEST_ENV}")
endfunction()
set(here ${CMAKE_CURRENT_SOURCE_DIR})
ferry_script(style.format TIMEOUT 60 PROCESSORS 1 COMMAND ${here}/test_style.sh format ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
ferry_script(style.map TIMEOUT 60 PROCESSORS 1 COMMAND ${here}/test_style.sh map ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
ferry_script(style.spelling TIMEOUT 60 PROCESSORS 1 COMMAND ${here}/test_style.sh spell ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
if(NOT FERRY_SANITIZE) # the same sources, once
  ferry_script(style.tidy TIMEOUT 900 PROCESSORS 2 COMMAND ${here}/test_style.sh tidy ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
endif()
if(TARGET cellferry_program)
  set(program $<TARGET_FILE:cellferry_program>)
  ferry_script(plot TIMEOUT 300 PROCESSORS 2 COMMAND ${here}/test_plot.sh ${PROJECT_SOURCE_DIR} ${program} ${MPIEXEC_EXECUTABLE})
  ferry_script(outputs TIMEOUT 240 PROCESSORS 2
    COMMAND ${here}/python.sh ${PROJECT_BINARY_DIR} ${here}/check_outputs.py ${program} ${MPIEXEC_EXECUTABLE} ${PROJECT_SOURCE_DIR}/data/pbmc68k_reduced.h5ad)
  ferry_script(waddington TIMEOUT 240 PROCESSORS 2
    COMMAND ${here}/python.sh ${PROJECT_BINARY_DIR} ${here}/check_waddington.py ${program} ${MPIEXEC_EXECUTABLE} ${FERRY_REAL_DATA})
  ferry_script(neighbors TIMEOUT 240 PROCESSORS 2
    COMMAND ${here}/python.sh ${PROJECT_BINARY_DIR} ${here}/check_neighbors.py ${program} ${MPIEXEC_EXECUTABLE} ${PROJECT_SOURCE_DIR}/data/pbmc68k_reduced.h5ad ${FERRY_REAL_DATA})
  ferry_script(map TIMEOUT 600 PROCESSORS 2
    COMMAND ${here}/python.sh ${PROJECT_BINARY_DIR} ${here}/check_map.py ${program} ${MPIEXEC_EXECUTABLE} ${here} ${PROJECT_SOURCE_DIR}/data/pbmc68k_reduced.h5ad ${FERRY_REAL_DATA})
  if(NOT FERRY_SANITIZE) # a plain consumer cannot load a sanitized library, and Slurm adds nothing to it
    ferry_script(install TIMEOUT 600 PROCESSORS 2 COMMAND ${here}/test_install.sh ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR} ${CMAKE_COMMAND} ${MPIEXEC_EXECUTABLE})
    ferry_script(slurm TIMEOUT 300 PROCESSORS 2 COMMAND ${here}/test_slurm.sh ${PROJECT_SOURCE_DIR} ${program} ${MPIEXEC_EXECUTABLE})
  endif()
endif()

# The program from end to end; walk makes every WALK-th agreement of a run fail (WALK=1 in the environment: each one).
foreach(part IN ITEMS flow manners lists walk)
  add_test(NAME program.${part} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/test_program.sh $<TARGET_FILE:cellferry_program>
    ${MPIEXEC_EXECUTABLE} ${PROJECT_SOURCE_DIR}/data ${part})
  set_tests_properties(program.${part} PROPERTIES PROCESSORS 2 TIMEOUT 600 ENVIRONMENT "${FERRY_TEST_ENV}")
endforeach()
