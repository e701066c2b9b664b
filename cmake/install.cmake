# `cmake --install`: library, program, headers, a package for find_package(cellferry) and one for pkg-config. Both find
# their way from where they lie, so an installed tree may be moved.
include(CMakePackageConfigHelpers)

# Public headers: every header of the rooms that does not end in _impl.h.
foreach(room IN ITEMS mpi io)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${room}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/cellferry/${room}
    FILES_MATCHING PATTERN "*.h" PATTERN "*_impl.h" EXCLUDE)
endforeach()
foreach(part IN ITEMS kernels math transport neighbors)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/src/${part}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/cellferry/${part}
    FILES_MATCHING PATTERN "*.h" PATTERN "*_impl.h" EXCLUDE)
endforeach()
install(FILES ${PROJECT_SOURCE_DIR}/src/cellferry.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/cellferry)

install(TARGETS cellferry EXPORT cellferry
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
if(TARGET cellferry_program)
  file(RELATIVE_PATH to_lib "${CMAKE_INSTALL_FULL_BINDIR}" "${CMAKE_INSTALL_FULL_LIBDIR}")
  set_target_properties(cellferry_program PROPERTIES INSTALL_RPATH "$ORIGIN/${to_lib}")
  install(TARGETS cellferry_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/README.md ${PROJECT_SOURCE_DIR}/CHANGELOG.md
  DESTINATION ${CMAKE_INSTALL_DOCDIR})

# In C++, mpi.h would bring the bindings that MPI dropped, and ask for their library.
target_compile_definitions(cellferry INTERFACE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)

# find_package(cellferry)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/cellferry)
install(EXPORT cellferry NAMESPACE cellferry:: FILE cellferryTargets.cmake DESTINATION ${package})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/cellferryConfig.cmake.in ${PROJECT_BINARY_DIR}/cellferryConfig.cmake
  INSTALL_DESTINATION ${package} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/cellferryConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/cellferryConfig.cmake ${PROJECT_BINARY_DIR}/cellferryConfigVersion.cmake
  ${CMAKE_CURRENT_LIST_DIR}/algebra.cmake DESTINATION ${package})

# pkg-config: the MPI that it was built with, as its own package where it has one, else by its flags.
find_package(PkgConfig)
set(pc_requires "")
set(pc_mpi_cflags "")
set(pc_mpi_libs "")
if(PkgConfig_FOUND)
  if("${MPI_C_INCLUDE_DIRS}" MATCHES "openmpi")
    pkg_check_modules(FERRY_PC_MPI QUIET ompi-c)
    set(pc_requires ompi-c)
  elseif("${MPI_C_INCLUDE_DIRS}" MATCHES "mpich")
    pkg_check_modules(FERRY_PC_MPI QUIET mpich)
    set(pc_requires mpich)
  endif()
  if(NOT FERRY_PC_MPI_FOUND)
    set(pc_requires "")
  endif()
endif()
if(NOT pc_requires)
  foreach(folder IN LISTS MPI_C_INCLUDE_DIRS)
    string(APPEND pc_mpi_cflags " -I${folder}")
  endforeach()
  string(JOIN " " pc_mpi_libs ${MPI_C_LIBRARIES})
endif()
# A static library does not bring what it uses: pkg-config --static does.
set(pc_static "")
if(NOT BUILD_SHARED_LIBS)
  string(JOIN " " pc_static ${HDF5_C_LIBRARIES} ${SCALAPACK_LIBRARY} ${LAPACK_LIBRARIES} ${OpenMP_C_FLAGS} -lm)
endif()
file(RELATIVE_PATH pc_up "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
string(REGEX REPLACE "/$" "" pc_up "${pc_up}")
configure_file(${CMAKE_CURRENT_LIST_DIR}/cellferry.pc.in ${PROJECT_BINARY_DIR}/cellferry.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/cellferry.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
